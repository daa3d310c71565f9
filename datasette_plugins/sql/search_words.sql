-- The items whose text, file name or labels have these words, the best first: by FTS5's BM25
select
    i.id, i.kind, i.sha256, i.width < 100 as is_tiny,
    snippet(items_fts, -1, char(2), char(3), '…', 32) as snippet,
    -- BM25 as FTS5 gives it is the better the lower.
    0 - f.rank as score,
    (select group_concat(l.value, ', ') from item_labels l where l.item_id = i.id) as labels
from items_fts f
join items i on i.id = f.rowid
where items_fts match :match
  and (nullif(:selection, '') is null
       or f.rowid in (select si.item_id from selection_items si
                      join selections s on s.id = si.selection_id where s.name = :selection))
  and (nullif(:label, '') is null
       or exists (select 1 from item_labels l
                  where l.item_id = f.rowid and l.name = :label and l.value = :value))
order by f.rank, i.id
limit :k
