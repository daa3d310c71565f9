-- What a detector run needs to be honest: truth that is known to be empty told from truth that nobody
-- gave, outlines as they were drawn, what class numbers mean, and what each distance was divided by; and
-- an interrupted run goes on under its own number.

alter table annotations add column polygons_json text check (json_valid(polygons_json));

-- The items whose ground truth is known, also when it is that nothing is there. An item that is not
-- here has no truth to be measured against, which is another thing than an empty image.
create table annotated_items (
    item_id integer primary key references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    source text not null,
    truth_sha256 text not null check (length(truth_sha256) = 64)   -- of all its annotations
) strict;

create index annotated_items_run on annotated_items (run_id);

-- What a collection's class numbers mean.
create table classes (
    collection text not null check (collection <> ''),
    class_id integer not null check (class_id >= 0),
    name text not null check (name <> ''),
    supercategory text,
    primary key (collection, class_id)
) strict, without rowid;

alter table loss_distances add column normaliser real;

alter table loss_distances add column n_foreground integer check (n_foreground >= 0);

drop index loss_distances_image;

create index loss_distances_image on loss_distances (image_item_id, run_id, component);

-- SQLite cannot drop a NOT NULL: the table is made anew, with its rows.
drop view embeddings;

create temp table old_image_metrics as select * from image_metrics;

drop table image_metrics;

-- How well the detections of an image meet its ground truth. What needs ground truth is NULL where
-- nobody annotated the image; what needs a match, a prediction or an object is NULL without one.
create table image_metrics (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    n_gt integer check (n_gt >= 0),                     -- crowds left out
    n_pred integer not null check (n_pred >= 0),
    tp integer check (tp >= 0),
    fp integer check (fp >= 0),
    fn integer check (fn >= 0),
    mean_iou real check (mean_iou between 0 and 1),     -- over matches
    mean_iou_gt real check (mean_iou_gt between 0 and 1),  -- over ground truth: what is missed counts 0
    mean_conf real check (mean_conf between 0 and 1),
    hit_freq real check (hit_freq between 0 and 1),     -- tp / n_gt
    dice_score real check (dice_score between 0 and 1), -- of matched masks, over ground truth
    category_distribution_json text not null default '{}'
        check (json_valid(category_distribution_json)), -- predictions of each class
    flag_cat integer check (flag_cat in (0, 1)),        -- predicted classes differ from the true ones
    flag_supercat integer check (flag_supercat in (0, 1)),  -- the same over supercategories
    truth_sha256 text check (length(truth_sha256) = 64),   -- the ground truth it was measured against
    primary key (run_id, item_id),
    check ((n_gt is null) = (tp is null) and (n_gt is null) = (fp is null)
           and (n_gt is null) = (fn is null))
) strict, without rowid;

create index image_metrics_item on image_metrics (item_id);

insert into image_metrics (
    run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou, mean_iou_gt, mean_conf, hit_freq,
    dice_score, category_distribution_json, flag_cat, flag_supercat
)
select run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou, mean_iou_gt, mean_conf, hit_freq,
       dice_score, category_distribution_json, flag_cat, flag_supercat
from old_image_metrics;

drop table old_image_metrics;

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

create view embeddings as
select
    v.item_id,
    s.name as space,
    m.name as model,
    m.family,
    v.vector,
    s.dimensions,
    im.hit_freq,
    im.mean_iou,
    im.mean_conf,
    im.dice_score,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'box') as box_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'cls') as cls_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'dfl') as dfl_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'seg') as seg_loss,
    im.flag_cat,
    im.flag_supercat,
    v.run_id,
    im.run_id as detect_run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
left join image_metrics im
    on im.item_id = v.item_id
    and im.run_id = (select max(judged.run_id) from image_metrics judged
                     join runs on runs.id = judged.run_id
                     where judged.item_id = v.item_id and runs.model_id = s.model_id)
where s.kind in ('embedding', 'feature');

drop view distances;

create view distances as
select n.run_id, 'neighbor' as kind, n.item_id, n.neighbor_id as other_item_id,
       null as component, n.distance, n.rank
from neighbors n
join runs r on r.id = n.run_id and r.status = 'finished'
union all
select l.run_id, 'loss', l.target_item_id, l.image_item_id, l.component, l.distance, null
from loss_distances l
join runs r on r.id = l.run_id and r.status = 'finished';

drop trigger runs_finished_never_change;

-- parent_run_id may become NULL when the parent is deleted, and a run that was interrupted or failed
-- may go on where it stopped; nothing else of an ended run moves.
create trigger runs_finished_never_change
before update on runs
when old.status <> 'running' and not (
    new.id is old.id and new.kind is old.kind and new.model_id is old.model_id
    and new.parameters_json is old.parameters_json and new.seed is old.seed
    and new.versions_json is old.versions_json and new.device is old.device
    and new.counts_json is old.counts_json and new.timings_json is old.timings_json
    and new.result_sha256 is old.result_sha256 and new.started_at is old.started_at
    and (
        (new.parent_run_id is null
         and new.status is old.status and new.error is old.error and new.process is old.process
         and new.finished_at is old.finished_at and new.duration_ms is old.duration_ms)
        or (old.status in ('interrupted', 'failed') and new.status = 'running'
            and new.parent_run_id is old.parent_run_id and new.error is null)
    )
)
begin
    select raise(abort, 'a run that has ended never changes: start a new run instead');
end;
