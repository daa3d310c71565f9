-- The feature vectors that a run gave to an item, by layer: a feature space is called MODEL/gap/LAYER.
select v.item_id, substr(s.name, instr(s.name, '/gap/') + 5) as layer, v.vector
from vectors v
join spaces s on s.id = v.space_id
where v.item_id = :item and v.run_id = :run and s.kind = 'feature'
order by layer
