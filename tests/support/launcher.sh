# launch NP SECONDS PROGRAM [ARG ...]: starts ranks on this machine, under Open MPI or MPICH, with a time
# limit. For tests and for launch/local.sh; sourced, not run.
#
# Open MPI wants to be told that more ranks than cores are meant, that root is allowed (containers), and not
# to copy between processes by ptrace rights that containers do not give. MPIEXEC names another launcher.

launcher_is_open_mpi() {
    "${MPIEXEC:-mpirun}" --version 2>/dev/null | grep -qi 'open mpi\|openrte\|prte'
}

launch() {
    local np=$1 seconds=$2
    shift 2
    if launcher_is_open_mpi; then
        local root=()
        [ "$(id -u)" -eq 0 ] && root=(--allow-run-as-root)
        OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none} \
            timeout $((seconds + 30)) "${MPIEXEC:-mpirun}" "${root[@]}" --oversubscribe \
            --timeout "$seconds" -np "$np" ${LAUNCH_FLAGS:-} "$@"
    else
        timeout "$seconds" "${MPIEXEC:-mpirun}" -np "$np" ${LAUNCH_FLAGS:-} "$@"
    fi
}
