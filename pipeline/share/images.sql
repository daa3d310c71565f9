-- The images of a map in the order in which they get a thumbnail: exemplars of clusters, then as good as by lot
select i.id
from projection_points p
join items i on i.id = p.item_id
where p.run_id = :run and i.kind = 'image'
order by exists (select 1 from clusters c where c.exemplar_item_id = i.id) desc, i.sha256, i.id
