package PVE::IPCC;

# In place of the stock module of this name: the same functions, on libpmxcfs.

use strict;
use warnings;

use Pmxcfs::IPCC;

our $VERSION = '1.0';

*ipcc_send_rec = \&Pmxcfs::IPCC::ipcc_send_rec;
*sendfd = \&Pmxcfs::IPCC::sendfd;

1;
