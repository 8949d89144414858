package Pmxcfs::IPCC;

use strict;
use warnings;

our $VERSION = '0.2.0';

require XSLoader;
XSLoader::load('Pmxcfs::IPCC', $VERSION);

sub configure {
    my (%options) = @_;

    my $flag = exists $options{restart_flag} ? $options{restart_flag} : '/run/pve-cluster/cfs-restart-flag';
    _configure($options{service}, $flag);
}

1;

__END__

=head1 NAME

Pmxcfs::IPCC - requests to pmxcfs, the Proxmox cluster configuration file system

=head1 SYNOPSIS

    use Pmxcfs::IPCC;

    my $version = Pmxcfs::IPCC::ipcc_send_rec(1);
    die "no version: $!\n" if !defined($version);

=head1 DESCRIPTION

The interface of PVE::IPCC on libpmxcfs. Numbers of requests are in F<cfs-ipc-ops.h>.

One connection is kept for the life of the process, and made anew after a fork, after a restart of the
daemon, and when it breaks. While the daemon is being restarted it is waited for.

=head1 FUNCTIONS

=head2 ipcc_send_rec($id, $data)

Sends request number C<$id> with the bytes of C<$data>, if that is a string, and waits for the answer.
Returns its data. Returns undef if the daemon answers with an error, if it cannot be reached, both with
an errno in C<$!>, or if the answer has no data, with C<$!> 0.

=head2 sendfd($socket, $fd, $data)

Passes a file descriptor to another process, with the bytes of C<$data>, over a connected Unix socket.
Both are numbers, as of C<fileno>. Returns how many bytes were sent, or -1 with an errno in C<$!>.

=head2 configure(service => $name, restart_flag => $path)

For tests: connects to another service, and looks for another file that is there while the daemon is
being restarted, or for none if that is undef. It ends the connection there is.

=cut
