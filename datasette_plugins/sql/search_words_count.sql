-- How many items have these words
select count(*) as items
from items_fts f
join items i on i.id = f.rowid
where items_fts match :match
  and (nullif(:selection, '') is null
       or f.rowid in (select si.item_id from selection_items si
                      join selections s on s.id = si.selection_id where s.name = :selection))
  and (nullif(:label, '') is null
       or exists (select 1 from item_labels l
                  where l.item_id = f.rowid and l.name = :label and l.value = :value))
