-- Who gave a cluster its name, where a person did.

alter table cluster_labels add column author text check (author <> '');
