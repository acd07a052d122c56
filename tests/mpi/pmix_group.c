/* Groups of ranks as PMIx itself has them: what Open MPI 5 makes its communicators of. Prints the numbers of three groups,
 * or what went wrong. */
#include <pmix.h>
#include <stdio.h>
#include <string.h>

/* Makes a group of every so many ranks, sees what number each member has said that it has given it, and ends the group: the
 * number that it has for all of them. */
static int group(const pmix_proc_t *me, const char *name, int first, int step, int size)
{
    pmix_proc_t members[64];
    pmix_info_t wish[2], *results = NULL, ask[2], *mine;
    pmix_data_array_t array;
    pmix_value_t *value;
    size_t count = 0, found = 0, number = 0, local = 100 + me->rank;
    int rc, right = 1;
    for (int rank = first; rank < size; rank += step, count++)
        PMIX_LOAD_PROCID(&members[count], me->nspace, rank);
    PMIX_INFO_LOAD(&wish[0], PMIX_GROUP_ASSIGN_CONTEXT_ID, NULL, PMIX_BOOL);
    PMIX_INFO_CREATE(mine, 1);
    PMIX_INFO_LOAD(&mine[0], PMIX_GROUP_LOCAL_CID, &local, PMIX_SIZE);
    array.type = PMIX_INFO;
    array.size = 1;
    array.array = mine;
    PMIX_INFO_LOAD(&wish[1], PMIX_GROUP_INFO, &array, PMIX_DATA_ARRAY);
    rc = PMIx_Group_construct(name, members, count, wish, 2, &results, &found);
    if (rc != PMIX_SUCCESS) {
        printf("construct %s: %s\n", name, PMIx_Error_string(rc));
        return -1;
    }
    for (size_t at = 0; at < found; at++)
        if (PMIX_CHECK_KEY(&results[at], PMIX_GROUP_CONTEXT_ID))
            number = results[at].value.data.size;
    for (size_t at = 0; at < count; at++) {
        int required = 1;
        PMIX_INFO_LOAD(&ask[0], PMIX_GROUP_CONTEXT_ID, &number, PMIX_SIZE);
        PMIX_INFO_SET_QUALIFIER(&ask[0]);
        PMIX_INFO_LOAD(&ask[1], PMIX_TIMEOUT, &required, PMIX_INT);
        rc = PMIx_Get(&members[at], PMIX_GROUP_LOCAL_CID, ask, 2, &value);
        if (rc != PMIX_SUCCESS) {
            printf("get of %u: %s\n", members[at].rank, PMIx_Error_string(rc));
            return -1;
        }
        right = right && value->type == PMIX_SIZE && value->data.size == 100 + members[at].rank;
    }
    rc = PMIx_Group_destruct(name, NULL, 0);
    if (rc != PMIX_SUCCESS) {
        printf("destruct: %s\n", PMIx_Error_string(rc));
        return -1;
    }
    return right ? (int) number : -2;
}

int main(int argc, char **argv)
{
    pmix_proc_t me, all;
    pmix_value_t *value;
    int size, parity;
    if (PMIx_Init(&me, NULL, 0) != PMIX_SUCCESS)
        return 1;
    PMIX_LOAD_PROCID(&all, me.nspace, PMIX_RANK_WILDCARD);
    if (PMIx_Get(&all, PMIX_JOB_SIZE, NULL, 0, &value) != PMIX_SUCCESS)
        return 1;
    size = value->data.uint32;
    parity = group(&me, me.rank % 2 ? "odd" : "even", me.rank % 2, 2, size);
    printf("all %d, parity %d, all %d\n", group(&me, "all", 0, 1, size), parity, group(&me, "all", 0, 1, size));
    PMIx_Finalize(NULL, 0);
    return 0;
}
