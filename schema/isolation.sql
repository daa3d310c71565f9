-- Model isolation: only a run whose model is of the yolo family may write what a detector writes.
-- The database refuses it, whoever asks: a CLIP or DINO run has embeddings and nothing else.

create trigger predictions_only_from_yolo_on_insert
before insert on predictions
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'predictions come only from a run whose model is of the yolo family');
end;

create trigger predictions_only_from_yolo_on_update
before update of run_id on predictions
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'predictions come only from a run whose model is of the yolo family');
end;

create trigger losses_only_from_yolo_on_insert
before insert on losses
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'losses come only from a run whose model is of the yolo family');
end;

create trigger losses_only_from_yolo_on_update
before update of run_id on losses
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'losses come only from a run whose model is of the yolo family');
end;

create trigger image_metrics_only_from_yolo_on_insert
before insert on image_metrics
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'image_metrics come only from a run whose model is of the yolo family');
end;

create trigger image_metrics_only_from_yolo_on_update
before update of run_id on image_metrics
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'image_metrics come only from a run whose model is of the yolo family');
end;

create trigger feature_maps_only_from_yolo_on_insert
before insert on feature_maps
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'feature_maps come only from a run whose model is of the yolo family');
end;

create trigger feature_maps_only_from_yolo_on_update
before update of run_id on feature_maps
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'feature_maps come only from a run whose model is of the yolo family');
end;

create trigger loss_distances_only_from_yolo_on_insert
before insert on loss_distances
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'loss_distances come only from a run whose model is of the yolo family');
end;

create trigger loss_distances_only_from_yolo_on_update
before update of run_id on loss_distances
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'loss_distances come only from a run whose model is of the yolo family');
end;

-- Nor may a model or a run change sides once rows hang on it.
create trigger models_family_never_changes
before update of family on models
when new.family <> old.family and exists (select 1 from runs where model_id = old.id)
begin
    select raise(abort, 'the family of a model that has runs never changes: name a new model');
end;

create trigger runs_model_never_changes
before update of model_id on runs
when new.model_id is not old.model_id
begin
    select raise(abort, 'the model of a run never changes: start a new run');
end;
