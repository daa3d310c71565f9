-- How an item's neighbours judged it, in each evaluation and space: right, of all settings (k, weighting)
select
    p.run_id,
    s.name as space,
    p.fold,
    p.y_true,
    coalesce(json_extract(r.parameters_json, '$.label'), json_extract(r.parameters_json, '$.target')) as what,
    json_extract(r.parameters_json, '$.label') is not null as is_label,
    count(*) as settings,
    sum(p.y_pred = p.y_true) as right,
    (select group_concat(said, ', ') from (
        select v.y_pred || ' (' || count(*) || ')' as said
        from cv_predictions v
        where v.run_id = p.run_id and v.space_id = p.space_id and v.item_id = p.item_id
              and v.y_pred is not null
        group by v.y_pred order by count(*) desc, v.y_pred limit 4
    )) as said,
    avg(p.y_pred) as mean_said,
    avg(abs(p.y_pred - p.y_true)) as mean_error
from cv_predictions p
join runs r on r.id = p.run_id
join spaces s on s.id = p.space_id
where p.item_id = :item
group by p.run_id, p.space_id
order by p.run_id desc, s.name
