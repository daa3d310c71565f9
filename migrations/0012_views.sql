-- The names people ask by, over built-in SQL only, so that any sqlite3 from 3.40 can read them.

create view clustering_results as
select
    m.run_id,
    m.level,
    max(i.name) as space,
    r.parameters_json,
    count(distinct m.cluster_id) as clusters,
    count(*) as items,
    sum(m.cluster_id is null) as noise,
    round(1.0 * sum(m.cluster_id is null) / count(*), 4) as noise_share,
    sum(m.is_assigned) as assigned,
    r.finished_at
from memberships m
join runs r on r.id = m.run_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space'
group by m.run_id, m.level;

create view current_runs as
select id as run_id, kind, model, space, finished_at
from (
    select
        r.id,
        r.kind,
        m.name as model,
        i.name as space,
        r.finished_at,
        row_number() over (
            partition by r.kind, r.model_id, i.name,
                         json_extract(r.parameters_json, '$.method'),
                         json_extract(r.parameters_json, '$.collection')
            order by r.id desc
        ) as newest
    from runs r
    left join models m on m.id = r.model_id
    left join run_inputs i on i.run_id = r.id and i.kind = 'space'
    where r.status = 'finished' and r.kind <> 'replay'
)
where newest = 1;

create view distances as
select run_id, 'neighbor' as kind, item_id, neighbor_id as other_item_id,
       null as component, distance, rank
from neighbors
union all
select run_id, 'loss', target_item_id, image_item_id, component, distance, null
from loss_distances;

create view embedding_clusters as
select
    m.run_id,
    i.name as space,
    m.level,
    m.item_id,
    c.label as cluster,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1)
        as cluster_name,
    m.probability,
    m.outlier_score,
    m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space';

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
     where l.run_id = v.run_id and l.item_id = v.item_id and l.component = 'box') as box_loss,
    (select value from losses l
     where l.run_id = v.run_id and l.item_id = v.item_id and l.component = 'cls') as cls_loss,
    (select value from losses l
     where l.run_id = v.run_id and l.item_id = v.item_id and l.component = 'dfl') as dfl_loss,
    (select value from losses l
     where l.run_id = v.run_id and l.item_id = v.item_id and l.component = 'seg') as seg_loss,
    im.flag_cat,
    im.flag_supercat,
    v.run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
left join image_metrics im on im.run_id = v.run_id and im.item_id = v.item_id
where s.kind = 'embedding';

create view features as
select
    v.item_id,
    s.name as space,
    m.name as model,
    m.family,
    v.vector,
    s.dimensions,
    v.run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
where s.kind = 'feature';

create view run_lineage as
with recursive
direct(run_id, ancestor_run_id, relation) as (
    select run_id, input_run_id, 'input' from run_inputs where input_run_id is not null
    union
    select i.run_id, w.id, 'space ' || i.name
    from run_inputs i
    join runs w on w.id <> i.run_id
         and exists (select 1 from vectors v where v.run_id = w.id and v.space_id = i.space_id)
    where i.space_id is not null
    union
    select id, parent_run_id, 'parent' from runs where parent_run_id is not null
),
walk(run_id, ancestor_run_id, relation, depth) as (
    select run_id, ancestor_run_id, relation, 1 from direct
    union
    select w.run_id, d.ancestor_run_id, d.relation, w.depth + 1
    from walk w join direct d on d.run_id = w.ancestor_run_id
    where w.depth < 100
)
select w.run_id, r.kind, w.ancestor_run_id, a.kind as ancestor_kind, w.relation, min(w.depth) as depth
from walk w
join runs r on r.id = w.run_id
join runs a on a.id = w.ancestor_run_id
group by w.run_id, w.ancestor_run_id;
