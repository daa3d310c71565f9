-- Where the bytes of an image are: in the file, or in a file beside it
select i.id, i.kind, i.sha256, i.uri, m.data
from items i
left join item_images m on m.item_id = i.id
where i.id = :item
