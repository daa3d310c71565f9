-- So few at a time that others may write in between.
delete from vector_index_chunks
where rowid in (select rowid from vector_index_chunks where index_id = ? limit 16)
returning 1
