"""describe_data"""
