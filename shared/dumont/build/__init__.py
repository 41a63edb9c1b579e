"""What turns `functions/` into bundles that can be deployed. No part of a bundle itself."""
