"""inspect_tokens"""
