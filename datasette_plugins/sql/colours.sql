-- By what the points of a map can be coloured: clusterings (of its own space first), labels, scores
select 'cluster' as kind, c.run_id, c.level, null as name, c.space,
       c.space is :space as is_own_space, c.clusters
from clustering_results c
union all
select 'outlier', c.run_id, c.level, null, c.space, c.space is :space, null
from clustering_results c
where exists (select 1 from memberships m
              where m.run_id = c.run_id and m.level = c.level and m.outlier_score is not null)
union all
select 'label', null, null, l.name, null, 1, null
from (select distinct name from item_labels) l
order by is_own_space desc, run_id desc, level, name
