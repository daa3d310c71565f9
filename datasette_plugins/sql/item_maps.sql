-- The maps that show an item
select
    p.run_id,
    (select max(i.name) from run_inputs i where i.run_id = p.run_id and i.kind = 'space') as space,
    json_extract(r.parameters_json, '$.method') as method
from projection_points p
join runs r on r.id = p.run_id
where p.item_id = :item
order by p.run_id desc
limit 20
