/* weir: the command line. Everything is in cli/, so that tests can link it. */
#include "cmd/cli/cli.h"

int main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
