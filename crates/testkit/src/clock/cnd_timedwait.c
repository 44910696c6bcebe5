/* libfaketime changes what the clock says and mends the deadlines that are made of it for
 * pthread_cond_timedwait, but not for C11's cnd_timedwait, which librdkafka uses: its waits would
 * be minutes too long or over at once. In glibc the types of the two are the same. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *deadline) {
    int error = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, deadline);
    return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : thrd_error;
}
