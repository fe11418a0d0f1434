"""The machine: hardware, files, processes, images on disk, installed packages."""
