-- One row an item and feature space (a layer of a detector, averaged over the image).
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
