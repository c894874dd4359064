"""mindeye"""
