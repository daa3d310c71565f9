-- Selections, with how many items each has
select
    s.id,
    s.name,
    s.how,
    (select count(*) from selection_items i where i.selection_id = s.id) as items,
    s.sql,
    s.note,
    s.created_at
from selections s
