complete -c pmxcfs -l root -d 'Put mount point, database and all other paths below DIR' -r -F
complete -c pmxcfs -l node -d 'Name of this node' -r
complete -c pmxcfs -l ip -d 'Address of this node' -r
complete -c pmxcfs -l service -d 'Name of the IPC service' -r
complete -c pmxcfs -s d -l debug -d 'Log debug messages'
complete -c pmxcfs -s f -l foreground -d 'Do not daemonize'
complete -c pmxcfs -s l -l local -d 'Local mode: ignore corosync.conf and take quorum for granted'
complete -c pmxcfs -s h -l help -d 'Print help'
complete -c pmxcfs -s V -l version -d 'Print version'
