-- Evaluations, the newest first: what was predicted, from which spaces, and how well at best
with best as (
    -- Of a bare column beside max(), SQLite takes the row of the maximum.
    select run_id, metric, max(value) as value, space_id, k, weighting
    from cv_metrics
    where fold is null and metric in ('accuracy', 'r2') and value is not null
    group by run_id
)
select
    r.id as run_id,
    json_extract(r.parameters_json, '$.label') as label,
    json_extract(r.parameters_json, '$.target') as target,
    (select group_concat(s.name, ', ') from (
        select s.name from spaces s
        where s.id in (select m.space_id from cv_metrics m where m.run_id = r.id)
        order by s.name
    ) s) as spaces,
    json_extract(r.counts_json, '$.items') as items,
    json_extract(r.parameters_json, '$.folds') as folds,
    json_extract(r.parameters_json, '$.group_by') as group_by,
    json_extract(r.parameters_json, '$.within') as within,
    b.metric,
    b.value as best,
    (select s.name from spaces s where s.id = b.space_id) as best_space,
    b.k as best_k,
    b.weighting as best_weighting,
    r.status,
    r.finished_at
from runs r
left join best b on b.run_id = r.id
where r.kind = 'evaluate' and exists (select 1 from cv_metrics m where m.run_id = r.id)
order by r.id desc
limit :limit
