-- Brings what another nearsql file has into this one:
--     sqlite3 -bail all.db "attach 'shard.db' as shard" ".read merge_shard.sql"
-- Both are of the same schema version. An item that is in both, by collection and SHA-256, comes in once, and
-- what this file has of it stays. What was computed of a whole shard (neighbours, indexes, clusters, maps,
-- evaluations, findings, loss distances) is left behind: it is another thing of the whole.
pragma foreign_keys = on;
begin immediate;

-- A row that is not sure ends it all.
create temp table sure (what text, ok integer not null check (ok));
insert into sure
select 'the same table ' || name, m.sql is s.sql
from main.sqlite_schema m join shard.sqlite_schema s using (type, name)
where type = 'table' and name in ('items', 'runs', 'vectors', 'annotations', 'predictions', 'image_metrics');
insert into sure
select 'run ' || id || ' of the shard has ended', 0 from shard.runs where status = 'running';
insert into sure
select 'the same model ' || m.name,
       m.family = s.family and m.checkpoint_sha256 is s.checkpoint_sha256
       and json_remove(m.parameters_json, '$.checkpoint.path')
           = json_remove(s.parameters_json, '$.checkpoint.path')
from main.models m join shard.models s using (name);
insert into sure
select 'what the model ' || s.name || ' learned is the same',
       a.data is (select b.data from main.models m join main.model_arrays b on b.model_id = m.id
                  where m.name = s.name and b.name = a.name)
from shard.models s join shard.model_arrays a on a.model_id = s.id
where s.name in (select name from main.models);
insert into sure
select 'the space ' || m.name || ' is measured alike',
       m.kind = s.kind and m.dimensions = s.dimensions and m.metric = s.metric
       and (select name from main.models where id = m.model_id)
           is (select name from shard.models where id = s.model_id)
from main.spaces m join shard.spaces s using (name);
insert into sure
select 'the class ' || m.class_id || ' of ' || m.collection || ' is the same', m.name = s.name
from main.classes m join shard.classes s using (collection, class_id);

-- New ids are those of the shard and so many more; what is here already is looked up.
create temp table more as
select (select ifnull(max(id), 0) from main.runs) as run,
       (select ifnull(max(id), 0) from main.annotations) as annotation,
       (select ifnull(max(id), 0) from main.items) as item;

insert into main.models (name, family, checkpoint_sha256, licence, parameters_json, created_at)
select name, family, checkpoint_sha256, licence, parameters_json, created_at from shard.models where true
on conflict (name) do nothing;
create temp table model_of (shard_id integer primary key, id integer);
insert into model_of select s.id, m.id from shard.models s join main.models m using (name);
insert into main.model_arrays (model_id, name, data)
select o.id, a.name, a.data from shard.model_arrays a join model_of o on o.shard_id = a.model_id where true
on conflict do nothing;

-- Runs say where they were made, so that a shard that has grown can be merged again. Their hashes were of ids
-- as they were there, and are left out: who would replay them does so in the shard.
create temp table run_of (shard_id integer primary key, id integer, is_new integer);
insert into run_of
select s.id, ifnull(m.id, s.id + more.run), m.id is null
from shard.runs s join more
left join main.runs m
    on m.kind = s.kind and m.started_at = s.started_at
    and m.parameters_json ->> 'merged_run' = s.id
    and m.parameters_json ->> 'merged_from' = (select value from shard.metadata where key = 'database_id')
where s.kind in ('ingest', 'annotate', 'import', 'embed', 'detect');
insert into main.runs
    (id, kind, model_id, parameters_json, seed, versions_json, device, counts_json, timings_json,
     process, started_at)
select o.id, r.kind, m.id,
       json_set(r.parameters_json, '$.merged_run', r.id, '$.merged_from',
                (select value from shard.metadata where key = 'database_id')),
       r.seed, r.versions_json, r.device, r.counts_json, r.timings_json, r.process, r.started_at
from shard.runs r join run_of o on o.shard_id = r.id and o.is_new
left join model_of m on m.shard_id = r.model_id;
insert into main.run_inputs (run_id, kind, name, rows, sha256)
select o.id, i.kind, i.name, i.rows, i.sha256
from shard.run_inputs i join run_of o on o.shard_id = i.run_id and o.is_new;
update main.runs set status = r.status, error = r.error, finished_at = r.finished_at, duration_ms = r.duration_ms
from shard.runs r join run_of o on o.shard_id = r.id and o.is_new
where main.runs.id = o.id;

create temp table item_of (shard_id integer primary key, id integer, is_new integer);
insert into item_of
select s.id, ifnull(m.id, s.id + more.item), m.id is null
from shard.items s join more left join main.items m on m.collection = s.collection and m.sha256 = s.sha256;
insert into main.items
    (id, kind, collection, sha256, uri, content, width, height, sequence_number, run_id, created_at,
     metadata_json)
select o.id, s.kind, s.collection, s.sha256, s.uri, s.content, s.width, s.height,
       row_number() over (partition by s.collection order by s.sequence_number, s.id) - 1
       + (select ifnull(max(sequence_number) + 1, 0) from main.items m where m.collection = s.collection),
       (select r.id from run_of r where r.shard_id = s.run_id), s.created_at, s.metadata_json
from shard.items s join item_of o on o.shard_id = s.id
where o.is_new order by s.id;
insert into main.item_images (item_id, media_type, data)
select o.id, s.media_type, s.data from shard.item_images s join item_of o on o.shard_id = s.item_id where o.is_new;
insert into main.item_labels (item_id, name, value, source)
select o.id, s.name, s.value, s.source from shard.item_labels s join item_of o on o.shard_id = s.item_id where true
on conflict do nothing;
insert into main.item_errors (run_id, item_id, uri, stage, message, created_at)
select r.id, o.id, s.uri, s.stage, s.message, s.created_at
from shard.item_errors s join run_of r on r.shard_id = s.run_id and r.is_new
left join item_of o on o.shard_id = s.item_id;

insert into main.classes (collection, class_id, name, supercategory)
select collection, class_id, name, supercategory from shard.classes where true
on conflict do nothing;
insert into main.annotations
    (id, item_id, run_id, class_id, class_name, x_min, y_min, x_max, y_max, mask_json, area, is_crowd, source,
     polygons_json)
select s.id + more.annotation, o.id, r.id, s.class_id, s.class_name, s.x_min, s.y_min, s.x_max, s.y_max,
       s.mask_json, s.area, s.is_crowd, s.source, s.polygons_json
from shard.annotations s join item_of o on o.shard_id = s.item_id and o.is_new
join more left join run_of r on r.shard_id = s.run_id;
insert into main.annotated_items (item_id, run_id, source, truth_sha256)
select o.id, r.id, s.source, s.truth_sha256
from shard.annotated_items s join item_of o on o.shard_id = s.item_id and o.is_new
left join run_of r on r.shard_id = s.run_id;

insert into main.spaces (name, kind, model_id, run_id, dimensions, metric, created_at)
select s.name, s.kind, m.id, r.id, s.dimensions, s.metric, s.created_at
from shard.spaces s
left join model_of m on m.shard_id = s.model_id left join run_of r on r.shard_id = s.run_id
where s.kind in ('embedding', 'feature')
on conflict (name) do nothing;
insert into main.vectors (space_id, item_id, run_id, vector)
select m.id, o.id, r.id, v.vector
from shard.vectors v join shard.spaces s on s.id = v.space_id join main.spaces m using (name)
join item_of o on o.shard_id = v.item_id left join run_of r on r.shard_id = v.run_id
where s.kind in ('embedding', 'feature')
order by v.id
on conflict (space_id, item_id) do nothing;

insert into main.predictions
    (run_id, item_id, class_id, class_name, confidence, x_min, y_min, x_max, y_max, mask_json,
     matched_annotation_id, iou)
select r.id, o.id, s.class_id, s.class_name, s.confidence, s.x_min, s.y_min, s.x_max, s.y_max, s.mask_json,
       s.matched_annotation_id + more.annotation, s.iou
from shard.predictions s join item_of o on o.shard_id = s.item_id and o.is_new
join run_of r on r.shard_id = s.run_id join more
order by s.id;
insert into main.losses (run_id, item_id, component, value, reason, normaliser)
select r.id, o.id, s.component, s.value, s.reason, s.normaliser
from shard.losses s join item_of o on o.shard_id = s.item_id and o.is_new
join run_of r on r.shard_id = s.run_id;
insert into main.image_metrics
    (run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou, mean_iou_gt, mean_conf, hit_freq, dice_score,
     category_distribution_json, flag_cat, flag_supercat, truth_sha256)
select r.id, o.id, s.n_gt, s.n_pred, s.tp, s.fp, s.fn, s.mean_iou, s.mean_iou_gt, s.mean_conf, s.hit_freq,
       s.dice_score, s.category_distribution_json, s.flag_cat, s.flag_supercat, s.truth_sha256
from shard.image_metrics s join item_of o on o.shard_id = s.item_id and o.is_new
join run_of r on r.shard_id = s.run_id;
insert into main.feature_maps (run_id, item_id, layer, shape_json, dtype, codec, data)
select r.id, o.id, s.layer, s.shape_json, s.dtype, s.codec, s.data
from shard.feature_maps s join item_of o on o.shard_id = s.item_id and o.is_new
join run_of r on r.shard_id = s.run_id;

drop table sure;
drop table more;
drop table model_of;
drop table run_of;
drop table item_of;
commit;
