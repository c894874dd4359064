"""extract_rois"""
