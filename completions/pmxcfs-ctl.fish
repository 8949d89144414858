# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pmxcfs_ctl_global_optspecs
    string join \n service= root= mount= timeout= json h/help V/version
end

function __fish_pmxcfs_ctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pmxcfs_ctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pmxcfs_ctl_using_subcommand
    set -l cmd (__fish_pmxcfs_ctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -s V -l version -d 'Print version'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "status" -d 'Node, quorum, members, database, groups, clients, rates'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "log" -d 'The newest entries of the cluster log, the newest last'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "guests" -d 'All guests of the cluster'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "get" -d 'A file of the tree, a status value, or properties of guests'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "watch" -d 'Changes of the tree, quorum, members, status and log, as they happen; one line each'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "metrics" -d 'Metrics in the text format of Prometheus'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l interval -d 'Measure rates for so long, instead of since the start' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -s n -l entries -d 'At most so many' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l user -d 'Only those of a user, such as root@pam' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand log" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l node -d 'Only those on a node' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l property -d 'Also this property of each, such as cores; can be given several times' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand guests" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -f -a "file" -d 'A file, as it is in the daemon\'s memory'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -f -a "status" -d 'A key of a node\'s status'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -f -a "guest" -d 'Properties of a guest\'s configuration'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and not __fish_seen_subcommand_from file status guest help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from file" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l node -d 'Of this node [default: the local one]' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from guest" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from help" -f -a "file" -d 'A file, as it is in the daemon\'s memory'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from help" -f -a "status" -d 'A key of a node\'s status'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from help" -f -a "guest" -d 'Properties of a guest\'s configuration'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand get; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l kind -d 'Only changes of this kind; can be given several times' -r -f -a "tree\t''
quorum\t''
members\t''
status\t''
log\t''
guests\t''"
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l below -d 'Only this path of the tree and what is below it' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l count -d 'End after so many changes' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand watch" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l output -d 'Replace this file, as a textfile collector wants it' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l host -d 'Host name that requests may name, beside localhost and literal addresses' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l service -d 'Name of the IPC service' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l root -d 'The daemon\'s --root: the tree should be at DIR/etc/pve' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l mount -d 'Where the tree should be mounted [default: where the daemon mounted it]' -r -F
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l timeout -d 'How long an answer may take' -r
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l http -d 'Answer requests of HTTP on standard input: a listening socket, or one connection'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -l json -d 'Print JSON'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "status" -d 'Node, quorum, members, database, groups, clients, rates'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "log" -d 'The newest entries of the cluster log, the newest last'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "guests" -d 'All guests of the cluster'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "get" -d 'A file of the tree, a status value, or properties of guests'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "watch" -d 'Changes of the tree, quorum, members, status and log, as they happen; one line each'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "metrics" -d 'Metrics in the text format of Prometheus'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and not __fish_seen_subcommand_from status log guests get watch metrics help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and __fish_seen_subcommand_from get" -f -a "file" -d 'A file, as it is in the daemon\'s memory'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and __fish_seen_subcommand_from get" -f -a "status" -d 'A key of a node\'s status'
complete -c pmxcfs-ctl -n "__fish_pmxcfs_ctl_using_subcommand help; and __fish_seen_subcommand_from get" -f -a "guest" -d 'Properties of a guest\'s configuration'
