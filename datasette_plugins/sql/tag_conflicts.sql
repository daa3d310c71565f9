-- Labels of the same name that did not come from a hand, which a tag would take the place of
select l.source, count(*) as items
from json_each(:items) j
join item_labels l on l.item_id = j.value and l.name = :name
where l.source <> 'hand'
group by l.source
order by items desc, l.source
