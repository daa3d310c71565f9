-- Takes a tag from items: with any value where none is given
delete from item_labels
where name = :name
  and source = 'hand'
  and (:value is null or value = :value)
  and item_id in (select value from json_each(:items))
