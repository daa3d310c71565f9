"""Export: items with their places on maps and in clusters, as files for viewers and other programs.

    export(db, "digits-web")                                  # items.json, clusters.json
    export(db, "digits-tables", runs=[3, 4], format="parquet")

`chosen` says which runs and items go out, `rows` reads them in batches, `folder` makes the folder appear
whole or not at all; `json_files`, `tables` (CSV, parquet), `datamapplot_files`, `atlas_files` and
`fiftyone_files` write it, and `image_sets` COCO and YOLO.
"""

from nearsql.pipeline.export.run import FORMATS, ExportResult, export

__all__ = ["FORMATS", "ExportResult", "export"]
