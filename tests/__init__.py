"""The test suite: mirrors the package, a package itself so that two rooms may have a file of the same name."""
