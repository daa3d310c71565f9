"""Ground truth: boxes, outlines and classes of images, from YOLO label files or COCO JSON."""
