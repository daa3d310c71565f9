-- The items of a list of ids, [1, 2, 3]
select i.*
from items i
where i.id in (select value from json_each(:items))
order by i.id
