#!/usr/bin/perl
# The Perl module as programs of the stack use it. Driven by tests/capi; each command ends with 0 if all was
# as it should be.
#
#   client.pl replay SERVICE    a request for each line "NUMBER HEXBODY"; prints errno and data
#   client.pl check SERVICE     on the node that the recordings begin with

use strict;
use warnings;

use Errno qw(ENOENT ECONNREFUSED EPIPE EBADF EINVAL ECHRNG);
use IO::Handle;
use POSIX ();
use Socket;

use PVE::IPCC;
use Pmxcfs::IPCC;

sub is {
    my ($what, $found, $expected) = @_;
    my ($a, $b) = map { defined($_) ? "'$_'" : 'undef' } ($found, $expected);
    die "$what is $a, not $b\n" if $a ne $b;
}

sub replay {
    while (my $line = <STDIN>) {
        chomp $line;
        my ($id, $hex) = split(/ /, $line, 2);
        $! = 5;
        my $answer = PVE::IPCC::ipcc_send_rec($id, pack('H*', $hex));
        my $errno = defined($answer) ? 0 : $! + 0;
        print "$errno ", unpack('H*', $answer // ''), "\n";
    }
}

sub requests {
    my $answer = PVE::IPCC::ipcc_send_rec(1);
    is('no error', $! + 0, 0);
    die "no version\n" if $answer !~ m/"starttime"/;
    is('a file', PVE::IPCC::ipcc_send_rec(6, pack('Z*', 'storage.cfg')), "abchello\n");
    is('an empty file', PVE::IPCC::ipcc_send_rec(6, pack('Z*', 'empty.cfg')), undef);
    is('without an error', $! + 0, 0);
    is('a missing file', PVE::IPCC::ipcc_send_rec(6, pack('Z*', 'missing')), undef);
    is('its error', $! + 0, ENOENT);
    is('an unknown request', PVE::IPCC::ipcc_send_rec(99), undef);
    is('its error', $! + 0, ECHRNG);
    # A number is no string, so there is no body.
    die "no version\n" if PVE::IPCC::ipcc_send_rec(1, 5) !~ m/"starttime"/;
    is('a body', PVE::IPCC::ipcc_send_rec(1, '5'), undef);
    is('its error', $! + 0, EINVAL);
    is('a value', PVE::IPCC::ipcc_send_rec(4, pack('Z[256]a*', 'kv/p', "\xe4\0x")), undef);
    is('no error', $! + 0, 0);
    is('the value', PVE::IPCC::ipcc_send_rec(5, pack('Z[256]Z[256]', 'kv/p', '')), "\xe4\0x");
    is('prototype', prototype('PVE::IPCC::ipcc_send_rec'), '$;$');
}

sub forks {
    my $expected = PVE::IPCC::ipcc_send_rec(2);
    my @children;
    for (1 .. 4) {
        my $pid = fork() // die "fork: $!\n";
        if (!$pid) {
            my $wrong = grep { (PVE::IPCC::ipcc_send_rec(2) // '') ne $expected } 1 .. 50;
            exit($wrong ? 1 : 0);
        }
        push @children, $pid;
    }
    is('an answer', PVE::IPCC::ipcc_send_rec(2), $expected) for 1 .. 50;
    for my $pid (@children) {
        waitpid($pid, 0);
        is('end of a child', $?, 0);
    }
    is('an answer', PVE::IPCC::ipcc_send_rec(2), $expected);
}

sub descriptors {
    socketpair(my $one, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC) || die "socketpair: $!\n";
    open(my $file, '<', $0) || die "open: $!\n";
    is('sendfd', PVE::IPCC::sendfd(fileno($one), fileno($file), 'data'), 4);
    sysread($other, my $data, 100);
    is('what came', $data, 'data');
    close($other);
    is('sendfd to nobody', PVE::IPCC::sendfd(fileno($one), fileno($file), 'data'), -1);
    is('its error', $! + 0, EPIPE);
    is('sendfd of nothing', PVE::IPCC::sendfd(fileno($one), -1, 'data'), -1);
    is('its error', $! + 0, EBADF);
}

sub open_files {
    opendir(my $dir, '/proc/self/fd') or die "no list: $!\n";
    my @files = readdir($dir);
    return scalar(@files);
}

# Threads one after the other, each with a connection; the main thread's goes on.
sub interpreters {
    my ($service) = @_;
    require threads;
    my $ask = sub {
        Pmxcfs::IPCC::configure(service => $service, restart_flag => undef);
        return defined(PVE::IPCC::ipcc_send_rec(1));
    };
    is('an answer', $ask->(), 1);
    my $before = open_files();
    is("thread $_", threads->create($ask)->join(), 1) for 1 .. 300;
    is('descriptors', open_files(), $before);
    is('an answer after all', defined(PVE::IPCC::ipcc_send_rec(1)), 1);
}

sub nobody {
    Pmxcfs::IPCC::configure(service => 'pmxcfs-test-nobody', restart_flag => undef);
    is('an answer of nobody', PVE::IPCC::ipcc_send_rec(1), undef);
    is('its error', $! + 0, ECONNREFUSED);
}

my ($command, $service) = @ARGV;
STDOUT->autoflush(1);
Pmxcfs::IPCC::configure(service => $service, restart_flag => undef);
if ($command eq 'replay') {
    replay();
} elsif ($command eq 'check') {
    requests();
    forks();
    descriptors();
    nobody();
} elsif ($command eq 'threads') {
    interpreters($service);
} else {
    die "no such command\n";
}
