"""check_params"""
