-- Which labels the members of each cluster carry; cluster NULL is the noise
select
    m.level,
    c.label as cluster,
    l.value,
    count(*) as n,
    legend.code
from memberships m
left join clusters c on c.id = m.cluster_id
join item_labels l on l.item_id = m.item_id and l.name = :label
join (select value, row_number() over (order by count(*) desc, value) - 1 as code
      from item_labels where name = :label group by value) legend on legend.value = l.value
where m.run_id = :run
group by m.level, c.label, l.value
order by m.level, c.label, n desc, l.value
