"""A local object store that speaks real HTTP: the S3 API and Backblaze B2's native one over the same files, with B2's
rules on application keys enforced on both, and faults on request.
"""
