MIB=1048576
SEAL_SIZE=256*MIB
def cases(x): return ()
