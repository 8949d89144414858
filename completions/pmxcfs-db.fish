# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pmxcfs_db_global_optspecs
    string join \n json h/help V/version
end

function __fish_pmxcfs_db_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pmxcfs_db_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pmxcfs_db_using_subcommand
    set -l cmd (__fish_pmxcfs_db_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -s V -l version -d 'Print version'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "check" -d 'List all that is wrong with a database'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "dump" -d 'Print the table, or one entry with its contents'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "repair" -d 'Show what would make a database sound, or do it'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "diff" -d 'Compare two databases'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "export" -d 'Make a directory tree from a database'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "import" -d 'Make a database from a directory tree'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "backup" -d 'Copy a database, in use or not, and check the copy'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "restore" -d 'Put a copy in the place of a database that no daemon has'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "info" -d 'Print what a database holds and how'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "compact" -d 'Write a database anew, with small pages'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand check" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand check" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand dump" -l contents -d 'Print only the contents of the entry, as they are'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand dump" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand dump" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand repair" -l backup -d 'Where the copy goes; never onto a file that is there' -r -F
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand repair" -l apply -d 'Do it, after a copy was made'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand repair" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand repair" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand diff" -l tree -d 'Compare only paths, types and contents'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand diff" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand diff" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand export" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand export" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand import" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand import" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand backup" -l database -d 'The database, if it is not that of this node' -r -F
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand backup" -l keep -d 'Remove all but the N newest copies in the directory' -r
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand backup" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand backup" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand restore" -l database -d 'The database, if it is not that of this node' -r -F
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand restore" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand restore" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand info" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand info" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand compact" -l backup -d 'Where the copy goes; never onto a file that is there' -r -F
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand compact" -l json -d 'Print JSON, for programs'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand compact" -s h -l help -d 'Print help'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "check" -d 'List all that is wrong with a database'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "dump" -d 'Print the table, or one entry with its contents'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "repair" -d 'Show what would make a database sound, or do it'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "diff" -d 'Compare two databases'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "export" -d 'Make a directory tree from a database'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "import" -d 'Make a database from a directory tree'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "backup" -d 'Copy a database, in use or not, and check the copy'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "restore" -d 'Put a copy in the place of a database that no daemon has'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "info" -d 'Print what a database holds and how'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "compact" -d 'Write a database anew, with small pages'
complete -c pmxcfs-db -n "__fish_pmxcfs_db_using_subcommand help; and not __fish_seen_subcommand_from check dump repair diff export import backup restore info compact help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
