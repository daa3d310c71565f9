-- The clusters of a level, or those within one cluster; names and words are the newest
select
    c.id as cluster_id,
    c.level,
    c.label,
    c.size,
    p.level as parent_level,
    p.label as parent,
    (select n.name from cluster_labels n where n.cluster_id = c.parent_id order by n.id desc limit 1)
        as parent_name,
    named.name,
    (select n.description from cluster_labels n
     where n.cluster_id = c.id and n.description is not null order by n.id desc limit 1) as description,
    named.method,
    named.strength,
    named.held_out_precision as precision
from clusters c
left join clusters p on p.id = c.parent_id
left join cluster_labels named
    on named.id = (select max(n.id) from cluster_labels n where n.cluster_id = c.id)
where c.run_id = :run
  and iif(ifnull(:parent, '') = '', c.level = :level, c.parent_id = :parent)
  and (ifnull(:search, '') = ''
       or instr(lower(ifnull(named.name, 'cluster ' || c.label)), lower(:search)) > 0
       or exists (select 1 from cluster_labels n
                  where n.cluster_id = c.id and instr(lower(n.description), lower(:search)) > 0))
order by c.size desc, c.label
limit :limit
