#!/usr/bin/perl
# A studio's script in Perl, with the library RPC::XML. Prints what it saw as one JSON object:
# values, and the XML-RPC types they came in.
use strict;
use warnings;
use utf8;
use JSON::PP;
use RPC::XML;
use RPC::XML::Client;

$RPC::XML::ENCODING  = 'utf-8';
$RPC::XML::ALLOW_NIL = 1;    # to send it; it is read without

my $server = RPC::XML::Client->new($ARGV[0]);
my %seen;

sub call {
    my $answer = $server->send_request(@_);
    die "$_[0]: $answer" unless ref $answer;
    die "$_[0]: " . $answer->string if $answer->is_fault;
    return $answer;
}

sub wait_for {
    my ($job) = @_;
    while (1) {
        my $status = call('getJob', $job, ['status'])->value->{status};
        return $status if grep { $_ eq $status } qw(succeeded failed cancelled abandoned);
        select(undef, undef, undef, 0.05);
    }
}

$seen{ping} = [call('ping')->type, call('ping')->value];

my $nested = {
    name     => 'größe',
    children => [{ name => 'child', command => "echo 'äöü€ 🦉 <&>'", tags => ['seen'] }],
};
$seen{ids} = call('newjob', $nested)->value;
my ($root, $child) = @{ $seen{ids} };
$seen{json} = call('newjob', RPC::XML::string->new('{"name": "from JSON", "priority": 1099511627776}'))->value;
$seen{none} = call('newjob', { name => 'under nothing' }, RPC::XML::nil->new)->value;

$seen{status} = wait_for($root);
$seen{job}    = call('getJob', $root, ['name', 'children', 'overallProgress'])->value;
$seen{output} = call('getJobOutput', $child)->value;

my $whole = call('getJob', $root);
$seen{types} = { map { $_ => $whole->{$_}->type } qw(id name progress queueTime endTime resources children showBlockedClientsWarning) };
$seen{times} = { map { $_ => $whole->{$_}->value } qw(queueTime endTime resources) };

my $large = call('getJob', $seen{json}[0], ['priority']);
$seen{large} = [$large->{priority}->type, "" . $large->{priority}->value];

$seen{clients} = [map { [$_->{label}, $_->{available}] } @{ call('getClients')->value }];
$seen{some}    = call('getClients', RPC::XML::nil->new, ['id'])->value;
$seen{nothing} = call('cancelJobs', [$root])->type;

my $fault = $server->send_request('makeCoffee');
$seen{fault} = [$fault->is_fault ? 1 : 0, $fault->code, $fault->string];

print JSON::PP->new->utf8->canonical->encode(\%seen), "\n";
