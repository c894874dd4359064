"""NSD's pictures and what COCO says of them."""
