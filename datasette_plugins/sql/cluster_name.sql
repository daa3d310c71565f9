-- Gives a cluster a name by hand, unless it is its name already
insert into cluster_labels (cluster_id, name, method, author)
select c.id, :name, 'hand', :author
from clusters c
where c.run_id = :run and c.level = :level and c.label = :cluster
  and :name is not (select n.name from cluster_labels n where n.cluster_id = c.id order by n.id desc limit 1)
