-- The full-text index of the items, and what keeps it true. {tokenizer} is put in by text.py.

-- What can be found: the text itself, the name of an image's file, and the labels' values.
create view items_text as
select
    i.id,
    ifnull(i.content, '') as content,
    iif(i.kind = 'image', substr(u.path, length(rtrim(u.path, replace(u.path, '/', ''))) + 1), '') as name,
    ifnull((select group_concat(l.value, char(10)) from item_labels l where l.item_id = i.id), '') as labels
from items i
join (select id, replace(ifnull(uri, ''), '\', '/') as path from items) u on u.id = i.id;

-- The comment is for Datasette and sqlite-utils, which look for these words to offer a search of items.
create virtual table items_fts using fts5 /* content="items" */ (
    content, name, labels, tokenize = '{tokenizer}'
);

-- Each writes the whole row of an item anew, so that it does not matter which of them are set off, nor
-- how often: an upsert sets off two, and REPLACE none for the row that it removes.
create trigger items_fts_item_inserted
after insert on items
begin
    insert or replace into items_fts (rowid, content, name, labels)
    select id, content, name, labels from items_text where id = new.id;
end;

create trigger items_fts_item_updated
after update of id, kind, content, uri on items
begin
    delete from items_fts where rowid = old.id;
    insert or replace into items_fts (rowid, content, name, labels)
    select id, content, name, labels from items_text where id = new.id;
end;

create trigger items_fts_item_deleted
after delete on items
begin
    delete from items_fts where rowid = old.id;
end;

create trigger items_fts_label_inserted
after insert on item_labels
begin
    insert or replace into items_fts (rowid, content, name, labels)
    select id, content, name, labels from items_text where id = new.item_id;
end;

create trigger items_fts_label_updated
after update of item_id, value on item_labels
begin
    insert or replace into items_fts (rowid, content, name, labels)
    select id, content, name, labels from items_text where id in (old.item_id, new.item_id);
end;

create trigger items_fts_label_deleted
after delete on item_labels
begin
    insert or replace into items_fts (rowid, content, name, labels)
    select id, content, name, labels from items_text where id = old.item_id;
end;
