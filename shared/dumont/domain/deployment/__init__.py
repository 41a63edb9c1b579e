"""What a deployment on Google Cloud needs of its project, and what answers of Google's APIs say of that."""
