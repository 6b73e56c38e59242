import os

# Read when NumPy is loaded, after this: scoring has threads of its own, and BLAS' beside them
# only wait for each other.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
