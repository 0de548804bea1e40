"""The sink that is a bucket: bundles wait in a spool and are brought to S3 one at a time; boto3 is imported late."""
