-- The items of a list of ids, [1, 2, 3], as a contact sheet shows them
select i.id, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from items i
where i.id in (select value from json_each(:items))
order by i.id
