// SPDX-FileCopyrightText: hyperscaler.images contributors
// SPDX-License-Identifier: GPL-3.0-or-later
#include <linux/module.h>

static int __init hyperscaler_test_init(void)
{
	return 0;
}

static void __exit hyperscaler_test_exit(void)
{
}

module_init(hyperscaler_test_init);
module_exit(hyperscaler_test_exit);
MODULE_DESCRIPTION("Does nothing");
MODULE_LICENSE("GPL");
