-- The mean of a loss in each cluster of a level; cluster_id NULL is the noise
select m.cluster_id, avg(l.value) as mean, count(l.value) as items
from memberships m
join losses l on l.run_id = :detector and l.item_id = m.item_id and l.component = :component
where m.run_id = :run and m.level = :level
group by m.cluster_id
