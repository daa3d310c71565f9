-- Which image an item has, without its bytes
select id, kind, sha256 from items where id = :item
