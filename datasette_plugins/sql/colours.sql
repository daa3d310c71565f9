-- By what the points of a map can be coloured: clusterings (of its own space first), labels, what
-- detectors measured, outlier scores
with recursive
clusterings as (
    select
        r.id as run_id,
        -- A run that found only noise has no clusters to tell its level.
        (select json_group_array(level) from (
            select distinct c.level from clusters c where c.run_id = r.id
            union select 1 where not exists (select 1 from clusters c where c.run_id = r.id)
            order by 1
        )) as levels_json,
        coalesce((
            select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'
        ), (
            json_extract(r.parameters_json, '$.component') || ' losses of run '
            || json_extract(r.parameters_json, '$.loss_distance_run')
        )) as space
    from runs r
    where exists (select 1 from memberships m where m.run_id = r.id)
),
-- One search of the index for each name, instead of reading all labels.
label_names (name) as (
    select min(name) from item_labels
    union all
    select (select min(l.name) from item_labels l where l.name > n.name)
    from label_names n
    where n.name is not null
),
detectors as (
    select r.id as run_id, m.name as model
    from runs r
    left join models m on m.id = r.model_id
    where exists (select 1 from image_metrics i where i.run_id = r.id)
),
metrics (place, name) as (
    values (1, 'mean_iou'), (2, 'mean_iou_gt'), (3, 'mean_conf'), (4, 'hit_freq'), (5, 'dice_score'),
           (6, 'n_gt'), (7, 'n_pred'), (8, 'tp'), (9, 'fp'), (10, 'fn'), (11, 'flag_cat'),
           (12, 'flag_supercat')
)
select *
from (
    select 1 as place, 'cluster' as kind, run_id, null as name, space, levels_json,
           space is :space as is_own_space, 0 as inner_place
    from clusterings
    union all
    select 2, 'label', null, name, null, null, 1, 0 from label_names where name is not null
    union all
    select 3, 'metric', d.run_id, m.name, d.model, null, 1, m.place from detectors d join metrics m
    union all
    -- Each image has a row for each component: those of one image are those of all.
    select 4, 'loss', r.id, l.component, m.name, null, 1, 0
    from runs r
    left join models m on m.id = r.model_id
    join losses l
        on l.run_id = r.id and l.item_id = (select min(f.item_id) from losses f where f.run_id = r.id)
    union all
    select 5, 'outlier', run_id, null, space, levels_json, space is :space, 0
    from clusterings c
    where exists (select 1 from memberships m
                  where m.run_id = c.run_id and m.outlier_score is not null)
)
order by place, is_own_space desc, run_id desc, inner_place, name
