-- What the thumbnails of a table's cells need to know of their items
select id, kind, sha256, width < 100 as is_tiny from items
where id in (select value from json_each(:ids))
union
select id, kind, sha256, width < 100 from items where id between :first and :last
